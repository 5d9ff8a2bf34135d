"""Study file -> Study -> grid: options, rules, published numbers."""
