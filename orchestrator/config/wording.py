"""What a message says about a name that does not exist; trainers use the same words."""

from merge.records.wording import did_you_mean, hint, listed

__all__ = ["did_you_mean", "hint", "listed"]
