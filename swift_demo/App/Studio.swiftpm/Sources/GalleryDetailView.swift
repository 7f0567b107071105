import KDStudio
import SwiftUI

/// One picture with what it was drawn from.
struct GalleryDetailView: View {
    /// The picture.
    let item: GalleryItem
    /// Goes to where pictures are drawn.
    let showDrawing: @MainActor () -> Void

    @Environment(Studio.self) private var studio
    @Environment(\.dismiss) private var dismiss

    var body: some View {
        Form {
            Section { StoredPictureView(item: item) }
            Section("Drawn from") {
                Text(item.settings.prompt)
                    .textSelection(.enabled)
                if let negative = item.settings.negativePrompt, !negative.isEmpty {
                    LabeledContent("Avoided", value: negative)
                }
                LabeledContent("Model", value: item.model)
                LabeledContent("Sampler", value: item.settings.scheduler)
                LabeledContent("Steps", value: "\(item.settings.steps)")
                LabeledContent("Guidance", value: item.settings.guidance.formatted())
                if let seed = item.settings.seed {
                    LabeledContent("Seed", value: String(seed))
                }
                LabeledContent(
                    "Size", value: "\(item.settings.width) × \(item.settings.height)")
                LabeledContent("Date", value: item.date.formatted())
            }
            Section {
                ShareLink(item: studio.gallery.picture(of: item))
                Button("Use these settings") {
                    studio.reuse(item)
                    dismiss()
                    showDrawing()
                }
                Button("Delete", role: .destructive) {
                    Task {
                        await studio.remove(item)
                        dismiss()
                    }
                }
            }
        }
        .navigationTitle("Picture")
        .navigationBarTitleDisplayMode(.inline)
    }
}
