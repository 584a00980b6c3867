"""An embedded DICOMweb store: a folder of studies as DICOM, whatever format its files have (issue 3)."""
