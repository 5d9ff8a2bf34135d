"""From results to the merged view: collect, combine, cells, statistics, comparability."""
