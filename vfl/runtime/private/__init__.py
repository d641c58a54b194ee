"""Files and folders that no other user of the machine reaches."""
