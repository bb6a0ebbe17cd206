"""CLIP as this project uses it: open_clip's networks, tapped for dense features and fed with prompts."""
