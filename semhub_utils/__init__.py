"""Instruments for the Semantic Hub Hypothesis (Wu et al., ICLR 2025, arXiv 2411.04986).

Data flows one way: spokes -> experiments -> states -> lens | similarity | steering -> evidence -> results -> chapter.
"""

__version__ = "0.1.0"
