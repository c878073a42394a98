"""Files in and out: pictures as they are kept, and files that are there whole or not at all."""
