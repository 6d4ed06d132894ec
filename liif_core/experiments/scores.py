"""The columns of scores.csv, which the batch runner of tests writes and the report reads."""

# Of scores.csv, which batch_test_simple.py writes; files from before it had the column `checkpoint` are read too.
COLUMNS = "model experiment framework checkpoint config dataset scale protocol psnr ssim images weights commit".split()
