"""What a run's records say, in numbers with their error bars: as JSON, as Markdown and as one page with plots."""
