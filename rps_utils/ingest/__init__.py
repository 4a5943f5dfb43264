"""From DICOM series, segmentations and a table to a manifest."""
