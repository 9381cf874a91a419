"""The model's report, a file a subject: material (what was measured) > numbers > sealed, left_out, twin, goals > plots."""
