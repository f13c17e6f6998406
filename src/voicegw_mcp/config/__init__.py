"""voicegw.yaml: what it means, and how one entry of it is changed without touching the rest."""
