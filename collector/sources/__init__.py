"""Sources: one file each, one method `run(tick)` each, registered explicitly in `collector.daemon`."""
