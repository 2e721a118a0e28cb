"""Formats of corpora, and what may be read: files, object stores, Hugging Face datasets."""
