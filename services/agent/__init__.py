"""Evidence in; hypotheses, probes, revisions and an explanation out. Stateless."""
