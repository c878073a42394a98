"""Data made ready for training: downloads, crops in LMDBs, a teacher's pictures."""
