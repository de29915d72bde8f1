"""Images as graphs of regions: pixels or super-pixels, their total variation and segmentation.

Geiping, Gaede, Bauermeister and Moeller, "Fast Convex Relaxations using Graph Discretizations"
(BMVC 2020, arXiv 2004.11075).
"""
