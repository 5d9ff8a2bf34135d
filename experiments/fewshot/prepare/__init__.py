"""Getting PASCAL-5i and COCO-20i onto a disk: download, check, unpack, convert, index."""
