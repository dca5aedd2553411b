"""What is written of found instances: pictures, masks, tables, maps, labels, videos."""
