"""What is needed to run the platform somewhere: nginx's configuration, and what the image leaves out."""
