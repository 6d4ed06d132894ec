"""From a data set to scores: `evaluate` goes through the images, `psnr_ssim` compares two."""
