"""`make viewer`: a PACS, a viewer and VitalCheck on this machine, so that people can see the reports as radiologists would. Read `__main__.py` first."""
