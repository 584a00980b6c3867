"""Prompts with attributes for detectors (MIU-VL, Qin et al., ICLR 2023): by hand, by cloze, by questions, by both."""
