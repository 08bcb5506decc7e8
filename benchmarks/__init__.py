"""What Anabranch costs, beside what it is made of and what others offer."""
