"""Floor 2: images and masks in and out (NIfTI, NRRD, DICOM, PNG), phantoms, overlays, procedural training data."""
