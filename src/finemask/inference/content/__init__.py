"""What a source holds that is no image file: addresses, videos, cameras, arrays."""
