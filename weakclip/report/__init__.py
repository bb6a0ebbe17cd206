"""The report page: HTML from figures and pictures that are already there."""
