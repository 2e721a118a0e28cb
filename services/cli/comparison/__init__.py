"""Explainers side by side: dossiers in; paired differences, tables and a plot out.

`rows` reads dossiers, `results` computes, `markdown`, `latex`, `files` and `plot` write. The
same dossiers, options and seed give the same bytes.
"""
