"""Pure tensor and array functions; nothing here holds state or knows a dataset."""
