"""Captioned pictures: where they come from, how they become latents and token ids, and how training reads those."""
