"""XSpectra of Quantum ESPRESSO: pseudopotentials, the supercell around a core hole, input and output. Imports no AiiDA."""
