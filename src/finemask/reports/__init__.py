"""The pages made of the kit: evaluation report, comparison, statistics, suspects, learning curve."""
