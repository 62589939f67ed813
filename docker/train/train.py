"""The program that sagemaker-training starts in the image when a job names none of its own."""

import sys

from kennel.classifier.__main__ import main

# Its arguments are the hyperparameters once more, in the toolkit's spelling; the trainer reads them where they stand.
sys.exit(main(["train"]))
