"""What the MONAI Label app is made of, free of MONAI Label itself: requests, answers, studies, errors."""
