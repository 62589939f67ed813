"""The program that sagemaker-training starts in the image; hyperparameters come as arguments."""

import sys

from kennel.classifier.__main__ import main

sys.exit(main(["train", *sys.argv[1:]]))
