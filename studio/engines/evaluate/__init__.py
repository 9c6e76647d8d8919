"""Engines that judge: texts and language models, pictures, speech. Each writes a report."""
