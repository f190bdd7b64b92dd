"""The tables in the warehouse that remember runs, partitions, validations, quarantine and log offsets."""
