"""An output folder and its copy in S3."""
