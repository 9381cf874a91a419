"""Phantom studies: DICOM heads that belong to nobody.

    anatomy | contrast | glioma, meningioma, pituitary > paint > scan > mr_image > enhanced        ct_head: a CT of ellipsoids

`scripts/make_phantom.py` writes them, `scripts/phantom_scores.py` has the network read them, `scripts/phantom_sheet.py` shows them.
"""
