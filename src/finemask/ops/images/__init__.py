"""Reading images: any file, array or PIL image to uint8 RGB."""
