"""What work takes: processor, memory and bytes, and what runs the partitions."""
