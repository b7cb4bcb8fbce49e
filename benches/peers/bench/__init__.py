"""Side-by-side measurements of sessiongate and its peers; `../run` is the command."""
