"""Images: any file, array or PIL image to uint8 RGB, and CLAHE."""
