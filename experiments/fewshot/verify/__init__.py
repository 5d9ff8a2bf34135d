"""Checking a copy of PASCAL-5i or COCO-20i: is all of it there, and is it what was published."""
