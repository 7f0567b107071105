import KDStudio
import SwiftUI
import UniformTypeIdentifiers

/// The models, and where they are added.
struct ModelsView: View {
    @Environment(Studio.self) private var studio
    @State private var isPicking = false

    var body: some View {
        List {
            if let progress = studio.adding {
                Section { AddingRow(progress: progress) }
            }
            Section {
                ForEach(studio.entries) { ModelRow(entry: $0) }
            } footer: {
                Text("A model is a folder that kdexport made for Core ML, with a manifest.json.")
            }
        }
        .overlay {
            if studio.entries.isEmpty && studio.adding == nil {
                ContentUnavailableView(
                    "No models", systemImage: "shippingbox",
                    description: Text("Add a folder that kdexport made for Core ML."))
            }
        }
        .navigationTitle("Models")
        .toolbar {
            Button {
                isPicking = true
            } label: {
                Label("Add a model", systemImage: "plus")
            }
            .disabled(studio.adding != nil)
        }
        .fileImporter(isPresented: $isPicking, allowedContentTypes: [.folder]) { result in
            switch result {
            case .success(let folder): Task { await studio.add(folder) }
            case .failure(let error): studio.notice = error.localizedDescription
            }
        }
    }
}

/// How far a model is that is being added.
struct AddingRow: View {
    /// How far.
    let progress: BundleLibrary.Progress

    @Environment(Studio.self) private var studio

    var body: some View {
        switch progress {
        case .copying(let share):
            ProgressView(value: share) { Text("Copying the model") }
        case .checking(let share):
            ProgressView(value: share) { Text("Checking every file") }
        }
        Button("Cancel", role: .cancel) { studio.cancelAdding() }
    }
}
