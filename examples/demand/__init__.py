"""The pack retail/demand; see README.md."""
