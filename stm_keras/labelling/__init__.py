"""How people label scans: which they are shown, what they said, and how well they agree."""
