"""From records to answers: metrics, statistics, comparison. Pure functions over tidy data frames."""
