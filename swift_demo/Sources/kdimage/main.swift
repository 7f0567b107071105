print("kdimage")
