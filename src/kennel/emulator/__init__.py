"""The local SageMaker: AWS's API on 127.0.0.1, answered by real containers or processes of this machine."""
