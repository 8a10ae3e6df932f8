"""Captioned pictures: sources of them, how they become latents and token ids, and how training reads those."""
