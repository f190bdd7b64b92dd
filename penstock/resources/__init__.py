"""Processor, memory and bytes that work needs, and what runs the partitions."""
