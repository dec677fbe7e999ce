"""The detection benchmark: how often human sequences raise an alarm, and how early collapsing loops do."""
