"""One request to an object store: errors, conditional writes, upload, download, permissions."""
