"""What the method claims, checked in numbers: the propositions of [SD], the removable singularity, and the brightness bias."""
