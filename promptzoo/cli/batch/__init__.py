"""``promptzoo batch``: many studies through one bundle, in many processes, safe to interrupt."""
